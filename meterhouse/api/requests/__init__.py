"""What a request says: simple and complex queries, paging, bodies."""
