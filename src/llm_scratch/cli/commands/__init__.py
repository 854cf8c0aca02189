"""The commands of `llm-scratch`, one file each, named like the command."""
