package keydtest

import (
	"fmt"
	"testing"

	"golang.org/x/mod/sumdb/tlog"
)

// Log is a Merkle tree that grows, for checkpoints to sign. Logs of one salt are the same log, as far as they go.
type Log struct {
	t      testing.TB
	salt   string
	size   uint64
	hashes []tlog.Hash
}

// NewLog returns an empty log. A helper program has no t, and passes nil.
func NewLog(t testing.TB, salt string) *Log { return &Log{t: t, salt: salt} }

// Fork returns a log that has n leaves in common with l, and none after them.
func (l *Log) Fork(n uint64, salt string) *Log {
	f := NewLog(l.t, l.salt)
	f.grow(n)
	f.salt = salt
	return f
}

func (l *Log) must(err error) {
	if err != nil && l.t == nil {
		panic(err)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *Log) grow(n uint64) {
	for ; l.size < n; l.size++ {
		h, err := tlog.StoredHashes(int64(l.size), fmt.Appendf(nil, "%s %d", l.salt, l.size), l)
		l.must(err)
		l.hashes = append(l.hashes, h...)
	}
}

// ReadHashes implements tlog.HashReader.
func (l *Log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var list []tlog.Hash
	for _, i := range indexes {
		list = append(list, l.hashes[i])
	}
	return list, nil
}

// Root is that of the first n leaves.
func (l *Log) Root(n uint64) [32]byte {
	l.grow(n)
	root, err := tlog.TreeHash(int64(n), l)
	l.must(err)
	return root
}

// Proof is the consistency proof between two sizes.
func (l *Log) Proof(from, to uint64) (list [][32]byte) {
	l.grow(to)
	if from == 0 || from == to {
		return nil
	}
	proof, err := tlog.ProveTree(int64(to), int64(from), l)
	l.must(err)
	for _, h := range proof {
		list = append(list, h)
	}
	return list
}

// Body is the checkpoint of the first n leaves, with the extension lines given.
func (l *Log) Body(origin string, n uint64, extensions ...string) []byte {
	b := fmt.Appendf(nil, "%s\n%d\n%s\n", origin, n, tlog.Hash(l.Root(n)))
	for _, e := range extensions {
		b = append(b, e+"\n"...)
	}
	return b
}
