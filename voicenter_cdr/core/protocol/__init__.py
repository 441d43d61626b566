"""The API's wire format. Pure."""
