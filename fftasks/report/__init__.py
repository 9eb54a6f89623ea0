"""What is displayed: states, tables, diagrams, the HTML report and the board."""
