"""`deja dedupe`: the groups of duplicates of a file, without a service.

reading   the rows of a csv, tsv, jsonl or txt file
grouping  from rows to groups: encode with all cores, group as a collection is grouped
writing   the rows that are kept, byte for byte, and the groups
progress  what a person sees meanwhile
command   from the options to the summary
"""
