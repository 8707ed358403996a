package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// maxReferenced bounds a file named by ${file:…}: secrets and names, not documents.
const maxReferenced = 64 << 10

// references resolves ${env:NAME} and ${file:/path} in scalars, and remembers the files.
type references struct {
	folder string // relative paths start here
	env    Env
	files  []string
	shut   bool // nothing is looked up: see shutReference
}

// resolve returns the text with its references replaced; used tells that there were any. What a reference yields is
// not looked at again, so a secret may contain "${". A literal "${" is written "$${".
func (r *references) resolve(text string) (resolved string, used bool, err error) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(text, "${")
		if !found {
			out.WriteString(text)
			return out.String(), used, nil
		}
		if literal, escaped := strings.CutSuffix(before, "$"); escaped {
			out.WriteString(literal + "${")
			text = after
			continue
		}
		name, rest, closed := strings.Cut(after, "}")
		if !closed {
			return "", used, errors.New(`a reference ends with "}"; a literal "${" is written "$${"`)
		}
		value, err := r.lookup(name)
		if err != nil {
			return "", true, err
		}
		out.WriteString(before + value)
		text, used = rest, true
	}
}

func (r *references) lookup(name string) (string, error) {
	kind, what, _ := strings.Cut(name, ":")
	switch {
	case r.shut && (kind == "env" || kind == "file"):
		return shutReference(name), nil
	case kind == "env" && what != "":
		value, ok := r.env(what)
		if !ok {
			return "", fmt.Errorf("environment variable %q is not set", what)
		}
		return value, nil
	case kind == "file" && what != "":
		return r.readFile(absolute(r.folder, what))
	}
	return "", fmt.Errorf(`unknown reference ${%s}: expected ${env:NAME} or ${file:/path}; a literal "${" is written "$${"`, name)
}

// shutReference stands for what a reference would yield, in a form that names, groups and hosts may have. Whoever looks at
// a file that somebody proposes must not give away their own environment and files by it.
func shutReference(name string) string {
	return strings.Trim(strings.Map(func(c rune) rune {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			return c
		case 'A' <= c && c <= 'Z':
			return c - 'A' + 'a'
		}
		return '-'
	}, name), "-")
}

// readFile returns the content of a small regular file without its last line end.
func (r *references) readFile(path string) (string, error) {
	if !slices.Contains(r.files, path) {
		r.files = append(r.files, path)
	}
	data, err := readRegular(path, maxReferenced)
	if err != nil {
		return "", err
	}
	text := strings.TrimSuffix(string(data), "\n")
	return strings.TrimSuffix(text, "\r"), nil
}

// readRegular reads a file that is a regular one and no larger than limit. A FIFO or a device would hold up the start.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}

// absolute places a relative path in the folder. The empty path stays empty: it means absent.
func absolute(folder, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
}
