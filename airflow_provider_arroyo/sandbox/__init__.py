"""An Arroyo API over real HTTP that needs no Arroyo."""
