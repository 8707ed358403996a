package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Version is the version of bundles that this package writes, and the newest that it reads.
const Version = 1

// formatName tells a bundle's manifest from other JSON.
const formatName = "sallyport evidence"

// Manifest says what a bundle holds. Its bytes are what the manifest key signs; all else in the bundle is bound to it by
// size and hash.
type Manifest struct {
	Format          string        `json:"format"`  // "sallyport evidence"
	Version         int           `json:"version"` // of the bundle's form
	RecordVersion   int           `json:"record_version"`
	Program         string        `json:"program,omitzero"`          // what wrote it
	Created         time.Time     `json:"created"`                   // as the caller said; UTC
	Who             string        `json:"who"`                       // who asked for it
	From            time.Time     `json:"from,omitzero"`             // the period asked for; absent: from the beginning
	To              time.Time     `json:"to,omitzero"`               // the period ends before this; absent: up to the checkpoint
	Query           string        `json:"query,omitzero"`            // which records of the period are the answer, as text; absent: all
	OnlyMatching    bool          `json:"only_matching"`             // of all others only the leaf hashes are here
	Logs            []LogManifest `json:"logs"`                      // in the order of their names
	Policies        []string      `json:"policies"`                  // digests whose archives are here
	MissingPolicies []string      `json:"missing_policies,omitzero"` // digests that records name and the audit directory had no archive of
	Files           []File        `json:"files"`                     // everything but the manifest and its note, in the order of the zip
}

// LogManifest says what a bundle holds of one log.
type LogManifest struct {
	Log      string  `json:"log"`       // "decision" or "control"
	Origin   string  `json:"origin"`    // of its checkpoint
	Size     uint64  `json:"size"`      // records that the checkpoint covers
	Oldest   uint64  `json:"oldest"`    // index of the oldest record that the audit directory still had
	First    uint64  `json:"first"`     // index of the first record here
	End      uint64  `json:"end"`       // one more than the index of the last one here
	Records  uint64  `json:"records"`   // End - First
	InPeriod uint64  `json:"in_period"` // those whose time is in the period
	Matching uint64  `json:"matching"`  // those of the period that the query chooses
	Withheld uint64  `json:"withheld"`  // those of which only the leaf hash is here
	Counts   []Count `json:"counts"`    // of Records, by type and effect
	Parts    []Part  `json:"parts"`     // the files with the records
}

// Count is how many records of a type and effect there are.
type Count struct {
	Type     string `json:"type"`
	Effect   string `json:"effect,omitzero"`
	Records  uint64 `json:"records"`
	Matching uint64 `json:"matching"`
}

// Part is one file of consecutive records, one a line.
type Part struct {
	File     string `json:"file"`
	First    uint64 `json:"first"`   // index of its first line
	Records  uint64 `json:"records"` // lines
	Matching uint64 `json:"matching"`
	Matches  string `json:"matches,omitzero"` // the file that says which match, where neither all nor none of them do
}

// File is one file of a bundle.
type File struct {
	Name      string `json:"name"`
	Size      int64  `json:"size"`       // bytes
	SHA256    string `json:"sha256"`     // hexadecimal
	Packed    int64  `json:"packed"`     // bytes in the zip
	PackedCRC string `json:"packed_crc"` // CRC-32C of those, hexadecimal: a bit that turned there is found even if it says the same
}

// Log returns what the bundle holds of a log; nil when that is nothing.
func (m *Manifest) Log(log string) *LogManifest {
	i := slices.IndexFunc(m.Logs, func(l LogManifest) bool { return l.Log == log })
	if i < 0 {
		return nil
	}
	return &m.Logs[i]
}

// encode is the manifest's file.
func (m *Manifest) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(m); err != nil {
		return nil, fmt.Errorf("encoding the manifest: %w", err)
	}
	return b.Bytes(), nil
}

// decodeManifest reads a manifest's file and checks that it does not contradict itself.
func decodeManifest(b []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrAltered, ManifestName, err)
	}
	if m.Format != formatName {
		return nil, fmt.Errorf("%w: %s is that of %q", ErrNotBundle, ManifestName, m.Format)
	}
	if m.Version < 1 || m.Version > Version {
		return nil, fmt.Errorf("%w: it has version %d, this program reads up to %d", ErrVersion, m.Version, Version)
	}
	if again, err := m.encode(); err != nil || !bytes.Equal(again, b) {
		return nil, fmt.Errorf("%w: %s is not in the form this program writes", ErrAltered, ManifestName)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrAltered, ManifestName, err)
	}
	return &m, nil
}

// noteLine is the second line of what the manifest key signs.
const noteLine = "sallyport evidence manifest v1"

// NoteText is what the manifest key named keyName signs for a manifest with that SHA-256.
func NoteText(keyName string, sum [sha256.Size]byte) string {
	return keyName + "\n" + noteLine + "\nsha256 " + hex.EncodeToString(sum[:]) + "\n"
}

// ParseNoteText reads the text of a manifest's note (golang.org/x/mod/sumdb/note.Note.Text).
func ParseNoteText(text string) (keyName string, sum [sha256.Size]byte, err error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] == "" || lines[1] != noteLine || lines[3] != "" {
		return "", sum, errors.New("this is no note on an evidence manifest")
	}
	digest, ok := strings.CutPrefix(lines[2], "sha256 ")
	raw, err := hex.DecodeString(digest)
	if !ok || err != nil || len(raw) != len(sum) || digest != strings.ToLower(digest) {
		return "", sum, errors.New("note on an evidence manifest: it states no SHA-256")
	}
	return lines[0], [sha256.Size]byte(raw), nil
}

// checkNote compares a signed note with the manifest's bytes. Who signed it is for the verifier to judge.
//
// A signature's base64 has bits at its end that say nothing, so its spelling is checked as well (C2SP signed-note).
func checkNote(note, manifest []byte) error {
	text, signatures, ok := strings.Cut(string(note), "\n\n")
	if !ok {
		return errors.New("it is not signed")
	}
	_, sum, err := ParseNoteText(text + "\n")
	if err != nil {
		return err
	}
	if sum != sha256.Sum256(manifest) {
		return errors.New("it is signed for another manifest")
	}
	for line := range strings.Lines(signatures) {
		encoded := line[strings.LastIndexByte(line, ' ')+1:]
		encoded, ok := strings.CutSuffix(encoded, "\n")
		if raw, err := base64.StdEncoding.DecodeString(encoded); err != nil || !ok || base64.StdEncoding.EncodeToString(raw) != encoded {
			return fmt.Errorf("signature line %q is malformed", line)
		}
	}
	return nil
}
