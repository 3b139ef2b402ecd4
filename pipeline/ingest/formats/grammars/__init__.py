"""The grammars of times and numbers in text: RE2 expressions for each way in which [format] says they are written."""
