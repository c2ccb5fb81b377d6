"""The truth: anchors, collections and the change log, in a SQL database or in memory."""
