package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
)

// policiesFolder holds each policy archive under its digest, below the audit directory, because a decision cannot be
// recomputed without it.
const policiesFolder = "policies"

// policyStore keeps policy archives by digest.
type policyStore struct {
	fs   FileSystem
	mu   sync.Mutex
	kept map[string]bool // known to be durable
}

// KeepPolicy stores the archive of an effective bundle under its digest, which must be "sha256:" and the hex SHA-256
// of the archive. It is durable on return. Keeping it again costs nothing.
func (a *Audit) KeepPolicy(digest string, archive []byte) error {
	if err := a.policies.keep(digest, archive); err != nil {
		return fmt.Errorf("keeping policy archive: %w", err)
	}
	return nil
}

// ReadPolicy returns the archive with that digest from an audit directory, checked against it. A digest that was never
// kept answers fs.ErrNotExist.
func ReadPolicy(dir, digest string) ([]byte, error) {
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	archive, err := readPolicy(d, digest)
	if err != nil {
		return nil, fmt.Errorf("reading policy archive: %w", err)
	}
	return archive, nil
}

func (p *policyStore) keep(digest string, archive []byte) error {
	name, err := policyName(digest)
	if err != nil {
		return err
	}
	if policyDigest(archive) != digest {
		return fmt.Errorf("archive does not have the digest %s", digest)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept[digest] {
		return nil
	}
	if err := p.write(name, archive); err != nil {
		return err
	}
	if p.kept == nil {
		p.kept = make(map[string]bool)
	}
	p.kept[digest] = true
	return nil
}

// write puts the archive in place by renaming, whatever an earlier run may have left there.
func (p *policyStore) write(name string, archive []byte) error {
	if err := p.fs.MkdirAll(policiesFolder); err != nil {
		return err
	}
	if err := p.fs.SyncDir("."); err != nil {
		return err
	}
	temporary := name + temporarySuffix
	f, err := p.fs.OpenFile(temporary, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(archive, 0)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = p.fs.Rename(temporary, name)
	}
	if err != nil {
		return errors.Join(err, p.fs.Remove(temporary))
	}
	return p.fs.SyncDir(policiesFolder)
}

func readPolicy(fs FileSystem, digest string) ([]byte, error) {
	name, err := policyName(digest)
	if err != nil {
		return nil, err
	}
	f, err := fs.OpenFile(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if _, err := io.Copy(&b, io.NewSectionReader(f, 0, size)); err != nil {
		return nil, err
	}
	if policyDigest(b.Bytes()) != digest {
		return nil, fmt.Errorf("%s does not have its digest", name)
	}
	return b.Bytes(), nil
}

func policyDigest(archive []byte) string {
	sum := sha256.Sum256(archive)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// policyName is the file of a digest; digests come from records too, so nothing but a digest passes.
func policyName(digest string) (string, error) {
	text, ok := strings.CutPrefix(digest, "sha256:")
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != sha256.Size || text != strings.ToLower(text) {
		return "", fmt.Errorf("%q is not a policy digest", digest)
	}
	return path.Join(policiesFolder, text+".tar"), nil
}
