"""The API's description: OpenAPI, with an example of each operation, from which the reference page is made."""
