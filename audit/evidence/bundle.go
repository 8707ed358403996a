// Package evidence makes and reads the bundle that an auditor takes away: one zip with the records of a period, the
// signed checkpoints and range proofs that show that nothing inside was changed or left out, the policies that decided,
// and a manifest signed by the key process.
//
// [Write] makes a bundle from a [Source]; [Open] reads one, under hard limits, because it may come from anybody. Reading
// compares every byte with the manifest. It judges no signature and no proof: that is audit/verify.
//
//	manifest.json, manifest.note        what is here; the manifest key's signature on it
//	README.txt, summary.html            the same for people
//	records/<log>/<index>.jsonl         one line a record: its JSON as stored or, where withheld, its leaf hash in base64
//	matches/<log>/<index>.csv           which of them the query chooses, where neither all nor none
//	checkpoints/<log>, proofs/<log>.json   the signed root, and the hashes that lead from the records to it
//	policies/<hex>.tar, schema/…        what decided; the form of records
package evidence

import (
	"errors"
	"io"
	"iter"
	"os"

	"sallyport/audit/tree"
)

// The names of files at the top of a bundle.
const (
	ManifestName = "manifest.json"
	NoteName     = "manifest.note"
	ReadmeName   = "README.txt"
	SummaryName  = "summary.html"
	SchemaName   = "schema/record.schema.json"
)

// What can be wrong with a bundle as a whole. Everything that Open and its Bundle report is one of these, a *Problem, or
// an error of the file system.
var (
	// ErrNotBundle says that the file is something else.
	ErrNotBundle = errors.New("this is no evidence bundle")
	// ErrVersion says that a newer program wrote it.
	ErrVersion = errors.New("the evidence bundle is of another version")
	// ErrAltered says that it contradicts itself: it is not what was written.
	ErrAltered = errors.New("the evidence bundle was altered")
	// ErrIncomplete says that the end of it, or its manifest, is not there.
	ErrIncomplete = errors.New("the evidence bundle is incomplete")
)

// Kind says what is wrong with one file of a bundle.
type Kind string

// The kinds of problems.
const (
	Missing  Kind = "missing"  // the manifest lists it, and it is not there
	Altered  Kind = "altered"  // it is not what the manifest says
	Unlisted Kind = "unlisted" // it is there, and the manifest does not list it
	Repacked Kind = "repacked" // of the zip itself: what lies around the files is not as it was written
)

// Problem is one file of a bundle that is not as the manifest says.
type Problem struct {
	Kind Kind
	Name string // of the file; empty for the zip itself
	Err  error  // nil where Kind says it all
}

// Error names the file and what is wrong.
func (p *Problem) Error() string {
	name := p.Name
	if name == "" {
		name = "the zip"
	}
	text := name + ": " + string(p.Kind)
	if p.Err != nil {
		text += ": " + p.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Err }

// Leaf is one record of a bundle.
type Leaf struct {
	Index uint64    // in the log; its seq
	Raw   []byte    // its JSON as stored, without a line break, until the next iteration; nil when it is withheld
	Hash  tree.Hash // its leaf hash; set only when it is withheld
	Match bool      // the query chooses it
}

// LeafHash is the leaf's hash, computed where the record is here.
func (l *Leaf) LeafHash() tree.Hash {
	if l.Raw == nil {
		return l.Hash
	}
	return tree.HashLeaf(l.Raw)
}

// Bundle is an open bundle. Its methods may be called at once, except Close.
type Bundle struct {
	file     *os.File
	members  map[string]member
	repacked error // why the container is not as it was written
	manifest *Manifest
	text     []byte // of the manifest
	note     []byte
	listed   map[string]*File
}

// Close closes the file.
func (b *Bundle) Close() error { return b.file.Close() }

// Manifest is what the bundle says of itself. It does not contradict itself, and was compared with nothing else.
func (b *Bundle) Manifest() *Manifest { return b.manifest }

// ManifestText is the manifest's file.
func (b *Bundle) ManifestText() []byte { return b.text }

// Note is the signed note on the manifest, which states its SHA-256; nil when it is missing. Its signatures are not
// judged.
func (b *Bundle) Note() []byte { return b.note }

// Checkpoint is the signed checkpoint of a log. An error is a *Problem.
func (b *Bundle) Checkpoint(log string) ([]byte, error) { return b.read(checkpointName(log)) }

// RangeProof is what leads from the leaves [First, End) of a log to its checkpoint's root. It is about that range of a
// tree of that size; whether it holds is not judged. An error is a *Problem.
func (b *Bundle) RangeProof(log string) (tree.RangeProof, error) {
	text, err := b.read(proofName(log))
	if err != nil {
		return tree.RangeProof{}, err
	}
	proof, err := parseProof(text, b.manifest.Log(log))
	if err != nil {
		return tree.RangeProof{}, &Problem{Kind: Altered, Name: proofName(log), Err: err}
	}
	return proof, nil
}

// Policy is the archive that is listed under a digest; whether it has that digest is for the caller to compare. An error is a
// *Problem.
func (b *Bundle) Policy(digest string) ([]byte, error) {
	name, err := policyName(digest)
	if err != nil {
		return nil, err
	}
	return b.read(name)
}

// Records yields the records of a log in the order of their indexes. An error, after which nothing follows, is a
// *Problem.
func (b *Bundle) Records(log string) iter.Seq2[Leaf, error] {
	return func(yield func(Leaf, error) bool) {
		l := b.manifest.Log(log)
		if l == nil {
			return
		}
		for i := range l.Parts {
			for leaf, err := range b.PartRecords(&l.Parts[i]) {
				if !yield(leaf, err) || err != nil {
					return
				}
			}
		}
	}
}

// Open opens a bundle and reads its manifest.
//
// What it holds in memory is bounded whatever the file says: the directory by 16 MiB, the manifest by 64 MiB, and of all
// other files one at a time by a limit of its kind.
func Open(path string) (*Bundle, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := open(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return b, nil
}

var _ io.Closer = (*Bundle)(nil)
