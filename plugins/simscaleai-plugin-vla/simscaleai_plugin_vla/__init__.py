"""A vision-language-action policy."""
