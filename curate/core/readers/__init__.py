"""Raw records to rows: containers, layouts, JSON lines as columns, what is odd set aside."""
