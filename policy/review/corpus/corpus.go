// Package corpus keeps what a policy was asked in a small file that may leave the machine: the distinct requests as far as
// the policy can read them, how often each was made, and what is answered. A change of the policy is tried on it where
// the log cannot be read, such as in the CI of the policy's repository.
//
// A corpus holds no names: ids and e-mail addresses become pseudonyms, the same for the same person, and so do claims,
// ids in paths, and values of queries and headers; addresses lose their last part. What the policy names itself stays, and so
// do domains, groups, words in paths, numbers, and the day of the last request. Whoever has a corpus can therefore still
// tell people apart, and may recognize somebody by what only they did: it is less than the log, not nothing.
//
// A request whose answer would change by that is left out and counted. A new policy that reads what a corpus does not hold, or
// compares what has become a pseudonym with values that the old one did not know, cannot be tried on it: [Corpus.Lacks] says
// so, and nothing is guessed.
//
// The file is text: a header, an entry a line, an empty line, and the signed note of the audit log's manifest key on the
// SHA-256 of all before.
package corpus

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Version is the version of the format that this package writes, and the only one it reads.
const Version = 1

// Header says what a corpus is about.
type Header struct {
	Corpus   int                 `json:"sallyport_corpus"` // Version
	Created  time.Time           `json:"created"`
	Program  string              `json:"program"`
	Policy   string              `json:"policy"` // the digest of the policy that answered
	Revision string              `json:"revision"`
	Timezone string              `json:"timezone"`
	From     time.Time           `json:"from,omitzero"` // the days of the first and the last request
	To       time.Time           `json:"to,omitzero"`
	Requests int64               `json:"requests"` // that the entries stand for
	Entries  int                 `json:"entries"`
	LeftOut  map[string]int64    `json:"left_out,omitempty"` // requests that are not there, by why
	Held     map[string][]string `json:"held"`               // by app, the input fields that entries have
	Known    map[string][]string `json:"known"`              // by app, the values that were not redacted
}

// Entry is one kind of request.
type Entry struct {
	App      string          `json:"app"`
	Requests int64           `json:"n"`
	Last     time.Time       `json:"last"` // the day
	Input    json.RawMessage `json:"input"`
	Allow    bool            `json:"allow,omitempty"`
	Reason   string          `json:"reason"`
	Decision json.RawMessage `json:"decision"`
}

// Corpus is a corpus that was read.
type Corpus struct {
	Header  Header
	entries []Entry
	body    []byte
	note    []byte
}

// Note is the signed note; empty where nobody signed. Whose signature it is, is for the caller to judge.
func (c *Corpus) Note() []byte { return c.note }

// Sum is what the note must state: the SHA-256 of all that is before it.
func (c *Corpus) Sum() [sha256.Size]byte { return sha256.Sum256(c.body) }

// Size bounds what Read reads.
const (
	MaxSize = 1 << 30
	maxNote = 16 << 10
)

var (
	// ErrNotCorpus says that a file is something else.
	ErrNotCorpus = errors.New("this is no corpus")
	// ErrAltered says that a corpus is not what was written.
	ErrAltered = errors.New("the corpus was altered")
)

// begin is how every corpus begins.
const begin = `{"sallyport_corpus":`

// Is reports whether a file that begins so claims to be a corpus.
func Is(text []byte) bool { return bytes.HasPrefix(text, []byte(begin)) }

// Read reads a corpus. It is whole if its note is on Sum.
func Read(r io.Reader) (*Corpus, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading a corpus: %w", err)
	}
	if !Is(text) {
		return nil, ErrNotCorpus
	}
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%w: it is larger than %d bytes", ErrAltered, MaxSize)
	}
	body, note, ended := bytes.Cut(text, []byte("\n\n"))
	if !ended || len(note) > maxNote {
		return nil, fmt.Errorf("%w: it does not end as it was written", ErrAltered)
	}
	c := &Corpus{body: text[:len(body)+1], note: note}
	if err := c.parse(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAltered, err)
	}
	return c, nil
}

func (c *Corpus) parse() error {
	first, rest, _ := bytes.Cut(c.body, []byte{'\n'})
	if err := strictly(first, &c.Header); err != nil {
		return fmt.Errorf("its header: %w", err)
	}
	if c.Header.Corpus != Version {
		return fmt.Errorf("it is of version %d, and this program reads version %d", c.Header.Corpus, Version)
	}
	requests := int64(0)
	for line := range bytes.Lines(rest) {
		var e Entry
		err := strictly(line, &e)
		if err == nil {
			err = c.check(&e)
		}
		if err != nil {
			return fmt.Errorf("entry %d: %w", len(c.entries)+1, err)
		}
		requests += e.Requests
		c.entries = append(c.entries, e)
	}
	if len(c.entries) != c.Header.Entries || requests != c.Header.Requests {
		return fmt.Errorf("it has %d entries for %d requests, not %d for %d", len(c.entries), requests, c.Header.Entries, c.Header.Requests)
	}
	return nil
}

// check makes sure that an entry holds what the header says.
func (c *Corpus) check(e *Entry) error {
	held, known := c.Header.Held[e.App]
	switch {
	case !known:
		return fmt.Errorf("the header knows no app %q", e.App)
	case e.Requests < 1:
		return fmt.Errorf("it stands for %d requests", e.Requests)
	}
	kept, err := keep(e.Input, held)
	if err != nil {
		return err
	}
	if !bytes.Equal(kept, e.Input) {
		return errors.New("its input has fields that the header does not say it holds")
	}
	return nil
}

func strictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if rest, err := io.ReadAll(d.Buffered()); err != nil || len(bytes.TrimSpace(rest)) > 0 {
		return errors.New("something follows")
	}
	return nil
}
