package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"

	"sallyport/audit/tree"
)

// Tree makes proofs about a log from its directory, beside the gateway or without one, and changes nothing there. All
// proofs are to its checkpoint. Hash tiles that are missing or wrong cost time and no more: they are made anew, in memory,
// from the records. Its methods may be called from several goroutines.
type Tree struct {
	reader     *Reader
	files      *overlay
	signed     []byte
	checkpoint tree.Checkpoint

	mu     sync.Mutex
	prover *tree.Prover
	anew   int // how much was made anew
}

// ErrNoCheckpoint says that a log has no signed checkpoint yet, or none that can be read.
var ErrNoCheckpoint = errors.New("the audit log has no signed checkpoint")

// OpenTree opens the tree of DecisionLog or ControlLog at its latest signed checkpoint, whose signature is not looked at.
func OpenTree(dir, log string) (*Tree, error) {
	r, err := OpenReader(dir, log)
	if err != nil {
		return nil, err
	}
	t, err := r.Tree()
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return t, nil
}

// Tree opens the tree of the log at its latest signed checkpoint.
func (r *Reader) Tree() (*Tree, error) {
	files := treeFiles{r.fs, path.Join(r.log, treeFolder)}
	signed, err := files.ReadFile(checkpointFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s log: %w", r.log, ErrNoCheckpoint)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint of the %s log: %w", r.log, err)
	}
	body, _, _ := bytes.Cut(signed, []byte("\n\n"))
	cp, err := tree.ParseCheckpointBody(append(bytes.Clone(body), '\n'))
	if err != nil {
		return nil, fmt.Errorf("%s log: %w: %w", r.log, ErrNoCheckpoint, err)
	}
	t := &Tree{reader: r, files: &overlay{below: files}, signed: signed, checkpoint: cp}
	base, err := r.base()
	if err != nil {
		return nil, err
	}
	t.prover = &tree.Prover{Files: t.files, Size: cp.Size, Root: cp.Root, Base: base}
	return t, nil
}

// Close lets go of the directory.
func (t *Tree) Close() error { return t.reader.Close() }

// Checkpoint is the checkpoint that all proofs are to, as a note and read.
func (t *Tree) Checkpoint() (signed []byte, cp tree.Checkpoint) { return t.signed, t.checkpoint }

// Prover reads the hash tiles that the directory has: for who copies tiles, not only proofs. It is for one goroutine, and
// none may ask t meanwhile.
func (t *Tree) Prover() *tree.Prover { return t.prover }

// Inclusion proves that the log has that record. It also returns the record's leaf hash.
func (t *Tree) Inclusion(ctx context.Context, seq uint64) (leaf tree.Hash, proof []tree.Hash, err error) {
	err = t.prove(ctx, func(p *tree.Prover) error {
		leaf, proof, err = p.Inclusion(seq)
		return err
	})
	return leaf, proof, err
}

// Consistency proves that the log has only grown since it had that size. It also returns the root it had then.
func (t *Tree) Consistency(ctx context.Context, old uint64) (root tree.Hash, proof []tree.Hash, err error) {
	err = t.prove(ctx, func(p *tree.Prover) error {
		root, proof, err = p.Consistency(old)
		return err
	})
	return root, proof, err
}

// Range proves what the records from seq first up to but without last are, none left out.
func (t *Tree) Range(ctx context.Context, first, last uint64) (proof tree.RangeProof, err error) {
	err = t.prove(ctx, func(p *tree.Prover) error {
		proof, err = p.Range(first, last)
		return err
	})
	return proof, err
}

// prove asks the tiles there are, then makes those anew that cannot be durable, then all.
func (t *Tree) prove(ctx context.Context, ask func(*tree.Prover) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		err := ask(t.prover)
		if !errors.Is(err, tree.ErrTiles) || t.anew == 2 {
			return err
		}
		t.anew++
		if err := t.remake(ctx); err != nil {
			return fmt.Errorf("making the hash tiles of the %s log: %w", t.reader.log, err)
		}
	}
}

func (t *Tree) remake(ctx context.Context) error {
	at := t.prover.Base
	durable, err := durableTiles(t.files.below)
	if err != nil {
		return err
	}
	if t.anew == 1 && at.Size() <= durable && durable <= t.checkpoint.Size {
		if at, err = t.reader.frontier(ctx, durable); err != nil {
			return err
		}
	}
	t.files.clear()
	tiles, err := tree.OpenTiles(t.files, at, t.prover.Base)
	if errors.Is(err, tree.ErrTiles) {
		return nil // the next attempt begins before that
	}
	if err != nil {
		return err
	}
	if err := t.reader.grow(ctx, tiles, t.checkpoint.Size, nil); err != nil {
		return err
	}
	if f := tiles.Frontier(); f.Root() != t.checkpoint.Root {
		return errors.New("its checkpoint is of other records than it holds")
	}
	t.prover = &tree.Prover{Files: t.files, Size: t.checkpoint.Size, Root: t.checkpoint.Root, Base: t.prover.Base}
	return nil
}

// grow appends the leaves of a log up to that size to its tiles, and writes them as it goes. after is called now and then.
func (r *Reader) grow(ctx context.Context, tiles *tree.Tiles, size uint64, after func() error) error {
	next := tiles.Size()
	leaves := make([]tree.Hash, 0, min(size-next, chunkLeaves))
	for line, err := range r.Lines(ctx, next) {
		if err != nil {
			return err
		}
		if next == size {
			break
		}
		if line.Seq != next {
			return fmt.Errorf("the log goes on with seq %d where %d was asked for", line.Seq, next)
		}
		leaves = append(leaves, tree.HashLeaf(line.Raw))
		next++
		if len(leaves) < chunkLeaves && next < size {
			continue
		}
		tiles.Append(leaves)
		leaves = leaves[:0]
		if err := tiles.Flush(next); err != nil {
			return err
		}
		if after != nil {
			if err := after(); err != nil {
				return err
			}
		}
	}
	if next != size {
		return fmt.Errorf("the log ends after %d records, not %d", next, size)
	}
	return nil
}

// overlay is a folder of tiles of which nothing is changed: what is written stays in memory, above what is there.
type overlay struct {
	below treeFiles

	mu    sync.Mutex
	above map[string][]byte
}

func (o *overlay) clear() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.above = map[string][]byte{}
}

func (o *overlay) ReadFile(name string) ([]byte, error) {
	o.mu.Lock()
	b, ok := o.above[name]
	o.mu.Unlock()
	if ok {
		return b, nil
	}
	return o.below.ReadFile(name)
}

func (o *overlay) ReadDir(name string) ([]string, error) {
	names, err := o.below.ReadDir(name)
	o.mu.Lock()
	defer o.mu.Unlock()
	for file := range maps.Keys(o.above) {
		if path.Dir(file) == name && !slices.Contains(names, path.Base(file)) {
			names, err = append(names, path.Base(file)), nil
		}
	}
	return names, err
}

func (o *overlay) WriteFile(name string, b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.above[name] = b
	return nil
}

func (o *overlay) Remove(name string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.above, name)
	return nil
}

func (o *overlay) ReplaceFile(name string, b []byte) error { return o.WriteFile(name, b) }
func (o *overlay) Sync([]string) error                     { return nil }
func (o *overlay) MkdirAll(string) error                   { return nil }
