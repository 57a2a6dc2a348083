exec perl /work/text.pl /work/corpus
