"""The app: one file a tab, on top of the library. Start it with ``python app.py``."""
