"""Parts of scripts/programs: what a definition can do (lab), where it runs (arena), and the definitions, by kind."""
