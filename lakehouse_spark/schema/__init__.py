"""What follows from the declarations as text: DDL."""
