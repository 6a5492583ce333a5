"""What tests share: each module gives one thing that several folders of tests ask for (tests/README.md lists them)."""
