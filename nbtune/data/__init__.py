"""The data package: turns the data of a user into facts and encoded examples."""
