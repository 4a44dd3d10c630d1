"""What a lent GPU is asked, in under ten minutes and one file of answers: __main__.py."""
