package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Limits of the operator's Rego.
const (
	maxModules     = 1000
	maxModuleBytes = 1 << 20
	maxSourceBytes = 8 << 20
)

// source is the operator's Rego as read: contents by name, relative to the folder or archive, and the revision that a
// .manifest file states (as `opa build --revision` writes it).
type source struct {
	modules  map[string][]byte
	revision string
	total    int
}

// readSource reads a folder or an archive.
func readSource(name string) (*source, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("reading policy bundle: %w", err)
	}
	read := readArchive
	if info.IsDir() {
		read = readFolderTwice
	}
	s, err := read(name)
	if err != nil {
		return nil, fmt.Errorf("reading policy bundle %s: %w", name, err)
	}
	if len(s.modules) == 0 {
		return nil, fmt.Errorf("reading policy bundle %s: it holds no *.rego file besides tests", name)
	}
	return s, nil
}

var errUnstable = errors.New("it changed while it was read; half a copy must not become active")

// readFolderTwice refuses a folder that somebody is still writing to.
func readFolderTwice(name string) (*source, error) { return readTwice(name, readFolder) }

func readTwice(name string, read func(string) (*source, error)) (*source, error) {
	first, err := read(name)
	if err != nil {
		return nil, err
	}
	second, err := read(name)
	if err != nil {
		return nil, err
	}
	if first.revision != second.revision || !maps.EqualFunc(first.modules, second.modules, bytes.Equal) {
		return nil, errUnstable
	}
	return second, nil
}

// readFolder reads through an os.Root: links may point about inside the folder, never out of it. Names that begin
// with a dot are skipped (Kubernetes mounts keep their versions there).
func readFolder(name string) (*source, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	s := newSource()
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if strings.HasPrefix(entry.Name(), ".") && name != manifestName {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() {
			return nil
		}
		info, err := root.Stat(name)
		switch {
		case err != nil:
			return err
		case info.IsDir():
			return fmt.Errorf("%s is a link to a folder, which is not followed", name)
		case !wanted(name):
			return nil
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is no regular file", name)
		}
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return s.add(name, f)
	})
	return s, err
}

// readArchive reads a .tar or .tar.gz, whole before anything in it is looked at.
func readArchive(name string) (*source, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readLimited(f, 2*maxSourceBytes)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(data, []byte("\x1f\x8b")) { // RFC 1952 §2.3.1
		zipped, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if data, err = readLimited(zipped, 2*maxSourceBytes); err != nil {
			return nil, err
		}
	}
	return parseTar(data)
}

func parseTar(data []byte) (*source, error) {
	if len(data) < 1024 || len(bytes.TrimRight(data[len(data)-1024:], "\x00")) > 0 {
		return nil, errors.New("no complete tar archive: its end is missing")
	}
	s := newSource()
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return s, nil
		}
		if err != nil {
			return nil, err
		}
		name := strings.TrimPrefix(h.Name, "/") // opa build writes a leading slash
		clean := path.Clean(name)
		switch {
		case !fs.ValidPath(clean):
			return nil, fmt.Errorf("%q leads out of the archive", h.Name)
		case h.Typeflag == tar.TypeDir, h.Typeflag == tar.TypeXGlobalHeader:
			continue
		case h.Typeflag != tar.TypeReg:
			return nil, fmt.Errorf("%s is no regular file", name)
		case strings.HasPrefix(path.Base(clean), ".") && clean != manifestName, !wanted(clean):
			continue
		}
		if err := s.add(clean, r); err != nil {
			return nil, err
		}
	}
}

const manifestName = ".manifest"

func newSource() *source { return &source{modules: make(map[string][]byte)} }

// wanted reports whether a file concerns us: modules, data files (to refuse them) and the manifest.
func wanted(name string) bool {
	switch base := path.Base(name); base {
	case "data.json", "data.yaml", "data.yml":
		return true
	default:
		return name == manifestName || strings.HasSuffix(base, ".rego") && !strings.HasSuffix(base, "_test.rego")
	}
}

var moduleName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._/-]{0,149}$`)

// add reads one wanted file.
func (s *source) add(name string, r io.Reader) error {
	content, err := readLimited(r, maxModuleBytes)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if name == manifestName {
		return s.readManifest(content)
	}
	if !strings.HasSuffix(name, ".rego") {
		if strings.TrimSpace(string(content)) == "{}" { // opa build writes it into every bundle
			return nil
		}
		return fmt.Errorf("%s: data files are not read; write the data as rules of a package", name)
	}
	if !moduleName.MatchString(name) {
		return fmt.Errorf("file name %q: use up to 150 letters, digits and . _ - /", name)
	}
	if _, twice := s.modules[name]; twice {
		return fmt.Errorf("%s is there twice", name)
	}
	s.total += len(content)
	if len(s.modules) == maxModules || s.total > maxSourceBytes {
		return fmt.Errorf("more than %d files or %d bytes of Rego", maxModules, maxSourceBytes)
	}
	s.modules[name] = content
	return nil
}

var revisionText = regexp.MustCompile(`^[\x21-\x7e]{0,100}$`)

func (s *source) readManifest(content []byte) error {
	var m struct {
		Revision string `json:"revision"`
	}
	if err := json.Unmarshal(content, &m); err != nil {
		return fmt.Errorf("%s: %w", manifestName, err)
	}
	if !revisionText.MatchString(m.Revision) {
		return fmt.Errorf("%s: revision %q: up to 100 printable ASCII characters without blanks", manifestName, m.Revision)
	}
	s.revision = m.Revision
	return nil
}

// names are the modules' names in order.
func (s *source) names() []string { return slices.Sorted(maps.Keys(s.modules)) }

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return data, err
}
