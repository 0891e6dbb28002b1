"""All definitions: importing their modules enters them."""

from programlib import files, languages, measure, names, stores, web
from programlib.lab import PROGRAMS

__all__ = ["PROGRAMS", "files", "languages", "measure", "names", "stores", "web"]
