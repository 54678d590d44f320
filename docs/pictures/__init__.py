"""Draws the pictures of the documentation: clicks through the real window, dock by dock, and photographs it."""
