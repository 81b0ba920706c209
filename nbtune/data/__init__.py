"""The data room: anything a user has, turned into facts and encoded examples."""
