"""The training page and the results page; assets/ holds their scripts and styles."""
