"""The server, and the page that it hosts."""
