"""Files -> rows, streamed: delimited text, JSON, Parquet and spreadsheets, told by their ending.

Every cell keeps its text as it is. What cannot be read is a :class:`qa_lora.errors.DataError` that
says where.
"""

from qa_lora.data.readers.opening import ENDINGS, ending_of, open_table, read_file
from qa_lora.data.readers.table import Table, cell_texts

__all__ = ["ENDINGS", "Table", "cell_texts", "ending_of", "open_table", "read_file"]
