"""Evaluation: metrics, the images to score, the scores, the table and the pictures."""
