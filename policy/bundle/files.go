package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// Limits of a bundle as it travels.
const (
	maxFiles     = 5_000
	maxFileBytes = 8 << 20
	maxBytes     = 16 << 20 // of all files, and of an archive, packed or not
)

// Files are the files of a bundle by their names, without a slash in front. Only Rego, JSON and YAML are kept, and of names
// that begin with a dot the manifest and the signatures alone.
type Files map[string][]byte

// Names that Open Policy Agent gave.
const (
	ManifestName   = ".manifest"
	SignaturesName = ".signatures.json"
)

// Remote reports whether a bundle is named by an address, to be fetched.
func Remote(name string) bool {
	return strings.HasPrefix(name, "https://") || strings.HasPrefix(name, "http://")
}

// Read reads a folder, or an archive: .tar or .tar.gz.
func Read(name string) (Files, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("reading policy bundle: %w", err)
	}
	read := readArchive
	if info.IsDir() {
		read = func(name string) (Files, error) { return readTwice(name, readFolder) }
	}
	files, err := read(name)
	if err != nil {
		return nil, fmt.Errorf("reading policy bundle %s: %w", name, err)
	}
	return files, nil
}

var errUnstable = errors.New("it changed while it was read; half a copy must not become active")

// readTwice refuses a folder that somebody is still writing to.
func readTwice(name string, read func(string) (Files, error)) (Files, error) {
	first, err := read(name)
	if err != nil {
		return nil, err
	}
	second, err := read(name)
	if err != nil {
		return nil, err
	}
	if !maps.EqualFunc(first, second, bytes.Equal) {
		return nil, errUnstable
	}
	return second, nil
}

// readFolder reads through an os.Root: links may point about inside the folder, never out of it. Names that begin with a
// dot are skipped (Kubernetes mounts keep their versions there).
func readFolder(name string) (Files, error) {
	root, err := os.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	g := &gathering{files: Files{}}
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil || name == ".":
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case entry.IsDir() || hidden(name):
			return nil
		}
		return g.fromFolder(root, name)
	})
	return g.files, err
}

// gathering is Files as they are read.
type gathering struct {
	files Files
	bytes int
}

func (g *gathering) fromFolder(root *os.Root, name string) error {
	info, err := root.Stat(name)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return fmt.Errorf("%s is a link to a folder, which is not followed", name)
	case !kept(name):
		return nil
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file", name)
	}
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return g.add(name, f)
}

// hidden tells names that are passed over.
func hidden(name string) bool {
	return strings.HasPrefix(path.Base(name), ".") && name != ManifestName && name != SignaturesName
}

// kept tells the files that concern a policy, its tests or its signature.
func kept(name string) bool {
	switch path.Ext(name) {
	case ".rego", ".json", ".yaml", ".yml":
		return true
	}
	return name == ManifestName
}

func (g *gathering) add(name string, r io.Reader) error {
	if _, twice := g.files[name]; twice {
		return fmt.Errorf("%s is there twice", name)
	}
	content, err := readLimited(r, maxFileBytes)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	g.bytes += len(content)
	if len(g.files) == maxFiles || g.bytes > maxBytes {
		return fmt.Errorf("more than %d files or %d bytes", maxFiles, maxBytes)
	}
	g.files[name] = content
	return nil
}

func readArchive(name string) (Files, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := readLimited(f, maxBytes)
	if err != nil {
		return nil, err
	}
	return Unpack(data)
}

// Unpack reads a tar archive, packed with gzip or not, whole before anything in it is looked at: one that lacks its end
// is refused.
func Unpack(data []byte) (Files, error) {
	if bytes.HasPrefix(data, []byte("\x1f\x8b")) { // RFC 1952 §2.3.1
		zipped, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if data, err = readLimited(zipped, maxBytes); err != nil {
			return nil, err
		}
	}
	if len(data) < 1024 || len(bytes.TrimRight(data[len(data)-1024:], "\x00")) > 0 {
		return nil, errors.New("no complete tar archive: its end is missing")
	}
	g := &gathering{files: Files{}}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return g.files, nil
		}
		if err == nil {
			err = g.fromArchive(h, r)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (g *gathering) fromArchive(h *tar.Header, r io.Reader) error {
	name := path.Clean(strings.TrimPrefix(h.Name, "/")) // opa build writes a leading slash
	switch {
	case !fs.ValidPath(name):
		return fmt.Errorf("%q leads out of the archive", h.Name)
	case h.Typeflag == tar.TypeDir, h.Typeflag == tar.TypeXGlobalHeader:
		return nil
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("%s is no regular file", name)
	case hidden(name), !kept(name):
		return nil
	}
	return g.add(name, r)
}

// Pack is the bundle as an archive, .tar.gz as Open Policy Agent has it. The same files make the same bytes.
func (f Files) Pack() ([]byte, error) {
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	w := tar.NewWriter(zipped)
	for _, name := range slices.Sorted(maps.Keys(f)) {
		h := &tar.Header{Format: tar.FormatUSTAR, Typeflag: tar.TypeReg, Name: "/" + name, Mode: 0o644, Size: int64(len(f[name])), ModTime: time.Unix(0, 0)}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("packing policy bundle: %s: %w", name, err)
		}
		if _, err := w.Write(f[name]); err != nil {
			return nil, fmt.Errorf("packing policy bundle: %s: %w", name, err)
		}
	}
	if err := errors.Join(w.Close(), zipped.Close()); err != nil {
		return nil, fmt.Errorf("packing policy bundle: %w", err)
	}
	return b.Bytes(), nil
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return data, err
}
