"""Reports: one HTML page about a run, made of its files. `contents` reads them, `page` writes the page."""
