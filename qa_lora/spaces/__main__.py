"""``python -m qa_lora.spaces`` writes README's front matter from ``spaces_config.yaml``."""

from qa_lora.spaces import main

if __name__ == "__main__":
    raise SystemExit(main())
