"""When the pages of a folder of metrics have to be made again."""
