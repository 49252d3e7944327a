#!/bin/sh
# Counts what the environment's build has made.
echo "$(wc -l < /srv/words/sorted.txt) words are sorted: $(paste -sd ' ' /srv/words/sorted.txt)"
