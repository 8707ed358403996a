package keyd

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// EncryptOptions say whose keys Encrypt encrypts.
type EncryptOptions struct {
	// Config is the path of keyd.yaml.
	Config string
	// PassphraseFile holds the passphrase. Default: what keyd.yaml says, or else a new one is asked for on the terminal, twice.
	PassphraseFile string
	// Credentials is the folder of systemd's. Default: none.
	Credentials string
}

// Encrypt encrypts every plain key file in the key folder, in place, and returns their names. Killed at any moment, it leaves
// each key readable under its name, plain or encrypted, and goes on when it is called again. keyd must not be running: it
// refuses plain keys in an encrypted folder.
func Encrypt(o EncryptOptions) ([]string, error) {
	done, err := o.encrypt()
	if err != nil {
		return done, fmt.Errorf("encrypting keys: %w", err)
	}
	return done, nil
}

func (o EncryptOptions) encrypt() (done []string, err error) {
	w, err := openWork(o.Config, o.Credentials)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	plain, err := w.files.plain()
	if err != nil {
		return nil, err
	}
	if err := w.openVault(o.PassphraseFile); err != nil {
		return nil, err
	}
	for _, file := range plain {
		if err := w.files.encryptOne(file); err != nil {
			return done, fmt.Errorf("%s: %w", file, err)
		}
		done = append(done, file)
	}
	return done, nil
}

// work is a key folder that a command has to itself.
type work struct {
	config *Config
	locked *os.File
	files  *keyFiles
}

// openWork keeps a running keyd away, and itself from a folder of another user's: keyd could not read what it made there.
func openWork(config, credentials string) (*work, error) {
	c, err := LoadConfig(config)
	if err != nil {
		return nil, err
	}
	c.credentials = credentials
	if err := checkOurs(c.Dir); err != nil {
		return nil, err
	}
	locked, err := lock(c.StateDir)
	if err != nil {
		return nil, err
	}
	files, err := openKeyFiles(c.Dir)
	if err != nil {
		return nil, errors.Join(err, locked.Close())
	}
	return &work{c, locked, files}, nil
}

func (w *work) close() error { return errors.Join(w.files.close(), w.locked.Close()) }

// openVault opens the vault that an earlier run made, or makes one.
func (w *work) openVault(file string) error {
	exists, err := w.files.encrypted()
	if err != nil {
		return err
	}
	passphrase, err := w.passphrase(file, !exists)
	if err != nil {
		return err
	}
	defer clear(passphrase)
	if !exists {
		fresh := newVault()
		defer fresh.wipe()
		if err := w.files.add(masterFile, fresh.sealMaster(passphrase, usualCost())); err != nil {
			return err
		}
	}
	return w.files.unlock(passphrase) // from the disk, also what was just written there
}

func (w *work) passphrase(file string, isNew bool) ([]byte, error) {
	what := "passphrase of " + w.config.Dir
	source := w.config.Passphrase
	switch {
	case file != "":
		source = SecretSource{File: file}
	case isNew && source.File == "" && (source.Credential == "" || w.config.credentials == ""):
		return NewPassphrase("", "new "+what)
	}
	passphrase, err := w.config.secret(source, what)
	if err == nil && isNew && len(passphrase) < minPassphrase {
		clear(passphrase)
		err = fmt.Errorf("%s: it has less than %d bytes", what, minPassphrase)
	}
	return passphrase, err
}

// plain names the plain key files, whether keyd.yaml names them or not, and wipes what was never a key. Whatever cannot be
// read as one ends it before anything has changed.
func (k *keyFiles) plain() (list []string, err error) {
	err = fs.WalkDir(k.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if !d.Type().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a folder: keys are encrypted under their own names", name)
		}
		data, err := k.read(name)
		defer clear(data)
		if err != nil || !bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN "+plainType)) {
			return err
		}
		if strings.HasPrefix(path.Base(name), freshPrefix) {
			return k.remove(name)
		}
		if _, err := parsePrivate(data); err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
		list = append(list, name)
		return checkRef(name)
	})
	return list, err
}

// encryptOne replaces a plain file by an encrypted one, once that has been read back from the disk.
func (k *keyFiles) encryptOne(file string) error {
	data, err := k.read(file)
	defer clear(data)
	if err != nil {
		return err
	}
	private, err := parsePrivate(data)
	if err != nil {
		return err
	}
	sealed, err := k.vault.sealKey(file, private)
	if err != nil {
		return err
	}
	return k.replace(file, sealed, func(written []byte) error {
		again, err := k.vault.openKey(file, written)
		if err == nil && !sameKey(again, private) {
			err = errors.New("another key came back from the disk")
		}
		return err
	})
}

// sameKey reports whether two keys are one, private halves included.
func sameKey(a, b crypto.Signer) bool {
	private, ok := a.(interface{ Equal(crypto.PrivateKey) bool })
	return ok && private.Equal(b)
}

// PassphraseOptions say whose passphrase ChangePassphrase changes.
type PassphraseOptions struct {
	// Config is the path of keyd.yaml.
	Config string
	// OldFile holds the passphrase so far. Default: what keyd.yaml says, or else it is asked for on the terminal.
	OldFile string
	// NewFile holds the new one. Default: it is asked for on the terminal, twice.
	NewFile string
	// Credentials is the folder of systemd's. Default: none.
	Credentials string
}

// ChangePassphrase makes another passphrase open the key folder, and the old one no more. Keys stay as they are, and so does
// the master key: whoever has a copy of the folder and the old passphrase has the keys, until they are rotated. keyd must not
// be running.
func ChangePassphrase(o PassphraseOptions) error {
	if err := o.change(); err != nil {
		return fmt.Errorf("changing the passphrase: %w", err)
	}
	return nil
}

func (o PassphraseOptions) change() (err error) {
	w, err := openWork(o.Config, o.Credentials)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	exists, err := w.files.encrypted()
	if err != nil {
		return err
	}
	if !exists {
		return fmt.Errorf("%s is not encrypted: see keyd encrypt", w.config.Dir)
	}
	old, err := w.passphrase(o.OldFile, false)
	if err != nil {
		return err
	}
	defer clear(old)
	if err := w.files.unlock(old); err != nil {
		return err
	}
	fresh, err := NewPassphrase(o.NewFile, "new passphrase of "+w.config.Dir)
	if err != nil {
		return err
	}
	defer clear(fresh)
	return w.files.replace(masterFile, w.files.vault.sealMaster(fresh, usualCost()), func(written []byte) error {
		again, err := openMaster(fresh, written)
		if err == nil && !bytes.Equal(again.master, w.files.vault.master) {
			err = errors.New("another key came back from the disk")
		}
		return err
	})
}
