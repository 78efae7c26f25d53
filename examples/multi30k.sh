#!/usr/bin/env bash
# English to German on Multi30k: a Transformer and a recurrent network with attention, trained for the same processor time on one
# thread each, and scored on the 2016 test set. The report is docs/multi30k.md.
#
#   examples/multi30k.sh DATA OUT     DATA holds train, val and test_2016_flickr as .en.gz and .de.gz
set -euo pipefail
data=$1 out=$2
export OMP_NUM_THREADS=1

train() { # name, then settings
  cutaway seq2seq out="$out/$1" data.source="$data/train.en.gz" data.target="$data/train.de.gz" \
    data.held_out_source="$data/val.en.gz" data.held_out_target="$data/val.de.gz" \
    train_tokenizer.vocab_size=8000 optim.lr=1e-3 loop.compile=off loop.eval_every=400 loop.eval_batches=16 "${@:2}"
}

time train transformer model.model_type=transformer model.norm=pre loop.steps=2900 &
time train gru model.model_type=rnn_seq2seq model.attention_score=additive model.dropout=0.2 loop.steps=4800 &
wait

for name in transformer gru; do
  cutaway translate "$out/$name/model" "$data/test_2016_flickr.en.gz" beam.width=5 beam.length_penalty=0.6 \
    --reference "$data/test_2016_flickr.de.gz" --out "$out/$name.de"
done
