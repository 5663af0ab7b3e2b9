"""The WebUI's side: panel and controls, and what connects them with the WebUI: infotext, X/Y/Z axes, settings, host."""
