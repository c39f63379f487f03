"""Plugins found, isolated and selected; components by name, built from their options."""
