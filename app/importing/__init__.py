"""`deja import`: rows out of a file, checked, sent in batches, and resumed where it stopped.

source.py    lines of a file with their numbers, plain or gzip
records.py   csv, tsv and jsonl lines as records of named fields
rows.py      records as anchors within the contract's limits, or as bad lines with a reason
batches.py   rows in groups whose limits depend on the file and the options alone
state.py     how far an import has come, on disk
sending.py   one batch to the service, without the rows it refuses
run.py       the import itself: batches in flight, acknowledged in order
progress.py  what a person sees of it
"""
