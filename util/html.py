"""The HTML page class, under the name that plug-ins import it by."""

from util.pages.document import HTML

__all__ = ["HTML"]
