"""What peers do, in our words: loops that no package offers."""
