package policy

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Names in an archive, in their order; modules follow, sorted by name.
const (
	archiveManifest     = "manifest.json"
	archiveCapabilities = "capabilities.json"
	archiveData         = "data.json"
	archiveOwn          = "operator.json" // only where the operator has data
)

const maxArchive = 64 << 20

// archive is the one serialisation of the contents: a tar (POSIX ustar) without times, owners or anything else that
// could differ between two machines.
func (c *contents) archive() ([]byte, error) {
	head := []struct {
		name  string
		value any
	}{
		{archiveManifest, c.manifest},
		{archiveCapabilities, c.capabilities},
		{archiveData, json.RawMessage(c.data)},
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range head {
		content, err := json.Marshal(h.value)
		if err == nil {
			err = writeFile(w, h.name, content)
		}
		if err != nil {
			return nil, fmt.Errorf("writing policy archive: %s: %w", h.name, err)
		}
	}
	if c.own != nil {
		if err := writeFile(w, archiveOwn, c.own); err != nil {
			return nil, fmt.Errorf("writing policy archive: %s: %w", archiveOwn, err)
		}
	}
	for _, m := range c.modules {
		if err := writeFile(w, m.name, m.content); err != nil {
			return nil, fmt.Errorf("writing policy archive: %s: %w", m.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("writing policy archive: %w", err)
	}
	return b.Bytes(), nil
}

func writeFile(w *tar.Writer, name string, content []byte) error {
	h := &tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: name, Mode: 0o444, Size: int64(len(content))}
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

// OpenArchive reads what Bundle.Archive wrote, and nothing else: serialised again it must be the same bytes. A newer
// schema and capabilities that this program does not grant are refused. Whether the archive is the one that a record
// names is for the caller to compare, by Digest.
func OpenArchive(data []byte) (*Bundle, error) {
	c, err := readContents(data)
	if err != nil {
		return nil, fmt.Errorf("opening policy archive: %w", err)
	}
	b, err := c.bundle()
	if err != nil {
		return nil, fmt.Errorf("opening policy archive: %w", err)
	}
	if !bytes.Equal(b.archive, data) {
		return nil, errors.New("opening policy archive: it is not in its canonical form")
	}
	b.memo = true
	return b, nil
}

func readContents(data []byte) (*contents, error) {
	if len(data) > maxArchive {
		return nil, fmt.Errorf("larger than %d bytes", maxArchive)
	}
	c := new(contents)
	head := []struct {
		name string
		into any
	}{
		{archiveManifest, &c.manifest},
		{archiveCapabilities, &c.capabilities},
		{archiveData, (*json.RawMessage)(&c.data)},
	}
	r := tar.NewReader(bytes.NewReader(data))
	for _, h := range head {
		name, content, err := readFile(r)
		if err == nil && name != h.name {
			err = fmt.Errorf("want %s, got %q", h.name, name)
		}
		if err == nil {
			err = json.Unmarshal(content, h.into)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", h.name, err)
		}
	}
	if c.manifest.Schema != schemaVersion {
		return nil, fmt.Errorf("its schema is version %d; this program knows version %d", c.manifest.Schema, schemaVersion)
	}
	for {
		name, content, err := readFile(r)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if name == archiveOwn && c.own == nil && c.modules == nil {
			c.own = content
			continue
		}
		c.modules = append(c.modules, module{name, content})
	}
	if !slices.IsSortedFunc(c.modules, func(a, b module) int { return strings.Compare(a.name, b.name) }) {
		return nil, errors.New("its modules are not in order")
	}
	return c, nil
}

func readFile(r *tar.Reader) (name string, content []byte, err error) {
	h, err := r.Next()
	if err != nil {
		return "", nil, err
	}
	content, err = io.ReadAll(r)
	return h.Name, content, err
}

// Under is the bundle as cfg has it evaluated: with its deadline and its memo. What it answers is its own.
func (b *Bundle) Under(cfg Config) *Bundle {
	under := *b
	under.deadline, under.memo, under.sampling = cfg.Deadline, cfg.Memo, cfg.MemoCheck
	return &under
}

// Zone is the time zone that the bundle's hours are meant in, for Context.SetTime.
func (b *Bundle) Zone() (*time.Location, error) {
	var data struct {
		Timezone string `json:"timezone"`
	}
	if err := json.Unmarshal(b.contents.data, &data); err != nil {
		return nil, fmt.Errorf("reading the policy's data: %w", err)
	}
	return loadZone(data.Timezone)
}
