"""What a network costs and sees, layer by layer, as numbers, tables and pictures."""
