"""Pictures of graphs: what is drawn (drawing.py), and the languages it is written in (dot.py, mermaid.py)."""
