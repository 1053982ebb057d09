"""What is forgotten: by age and size, by a user's wish, and from the words of trainings."""
