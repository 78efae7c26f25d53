"""From a folder of documents to cited answers."""
