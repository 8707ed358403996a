package keyd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// SecretSource says where a secret is: never in keyd.yaml. Empty, or as a credential where systemd gave none: keyd asks on
// the terminal that it was started from.
type SecretSource struct {
	// File is the path of a file that holds the secret and nothing else, but for one line end. It belongs to root or
	// keyd's user and is closed to group and others.
	File string `yaml:"file"`
	// Credential is the name of a credential in keyd.service: LoadCredential= or LoadCredentialEncrypted=.
	Credential string `yaml:"credential"`
}

const (
	// maxSecret bounds a passphrase or PIN, in bytes.
	maxSecret = 1024
	// minPassphrase is what a new passphrase has at least, in bytes. Argon2id makes guessing slow, not impossible.
	minPassphrase = 12
)

func (s SecretSource) check() error {
	if s.File != "" && s.Credential != "" {
		return errors.New("either file or credential must say where the secret is")
	}
	if s.Credential != "" && (!fs.ValidPath(s.Credential) || filepath.Base(s.Credential) != s.Credential) {
		return fmt.Errorf("%q is no name of a credential", s.Credential)
	}
	return nil
}

// secret returns what a source holds, or asks for it under a name.
func (c *Config) secret(s SecretSource, what string) ([]byte, error) {
	var secret []byte
	var err error
	switch {
	case s.File != "":
		secret, err = readSecret(s.File, 0o077)
	case s.Credential != "" && c.credentials != "":
		// systemd lets keyd's user in by an access list, which shows as the group's right to read.
		secret, err = readSecret(filepath.Join(c.credentials, s.Credential), 0o037)
	case onTerminal():
		secret, err = prompt(what + ": ")
	case s.Credential != "":
		err = errors.New("systemd gave no credentials, and there is no terminal to ask on")
	default:
		err = errors.New("keyd.yaml names no source, and there is no terminal to ask on")
	}
	if err == nil && len(secret) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return secret, nil
}

// readSecret reads a file that root or keyd's user owns and that has none of the forbidden mode bits.
func readSecret(path string, forbidden fs.FileMode) ([]byte, error) {
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
	if err := checkOwnedInfo(info, forbidden); err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	secret := make([]byte, maxSecret+1)
	n, err := io.ReadFull(f, secret)
	if err == nil {
		clear(secret)
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxSecret)
	}
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	return oneLine(secret[:n])
}

// oneLine drops the line end that editors add. A secret of several lines is a mistake.
func oneLine(secret []byte) ([]byte, error) {
	secret = bytes.TrimSuffix(bytes.TrimSuffix(secret, []byte("\n")), []byte("\r"))
	if bytes.ContainsAny(secret, "\r\n\x00") {
		clear(secret)
		return nil, errors.New("it has more than one line")
	}
	return secret, nil
}

// onTerminal reports whether a person can be asked.
func onTerminal() bool {
	_, err := unix.IoctlGetTermios(unix.Stdin, unix.TCGETS)
	return err == nil
}

// prompt reads a line from the terminal that does not appear there. Ctrl-C and Ctrl-D end it with an error: signals are taken
// care of elsewhere while keyd runs, so that they would be lost here.
func prompt(words string) ([]byte, error) {
	before, err := unix.IoctlGetTermios(unix.Stdin, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	quiet.Cc[unix.VMIN], quiet.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(unix.Stdin, unix.TCSETSF, &quiet); err != nil {
		return nil, err
	}
	fmt.Fprint(os.Stderr, words)
	secret, err := typed(os.Stdin)
	fmt.Fprintln(os.Stderr)
	return secret, errors.Join(err, unix.IoctlSetTermios(unix.Stdin, unix.TCSETSF, before))
}

// typed reads one line, byte by byte, from a terminal in raw mode.
func typed(r io.Reader) ([]byte, error) {
	line := make([]byte, 0, maxSecret)
	var b [1]byte
	for {
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, err
		}
		switch {
		case b[0] == '\r' || b[0] == '\n':
			return line, nil
		case b[0] == 3 || b[0] == 4: // Ctrl-C, Ctrl-D
			clear(line)
			return nil, errors.New("cancelled")
		case b[0] == 8 || b[0] == 127: // backspace
			line = line[:max(0, len(line)-1)]
		case len(line) == maxSecret:
			clear(line)
			return nil, fmt.Errorf("it is longer than %d bytes", maxSecret)
		default:
			line = append(line, b[0])
		}
	}
}

// NewPassphrase returns a new passphrase: what a file holds, or else what is typed twice on the terminal. what tells the
// person which one is meant.
func NewPassphrase(file, what string) ([]byte, error) {
	secret, err := chosen(file, what)
	if err == nil && len(secret) < minPassphrase {
		clear(secret)
		err = fmt.Errorf("it has less than %d bytes", minPassphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return secret, nil
}

func chosen(file, what string) ([]byte, error) {
	if file != "" {
		return readSecret(file, 0o077)
	}
	if !onTerminal() {
		return nil, errors.New("no file is named, and there is no terminal to ask on")
	}
	secret, err := prompt(what + ": ")
	if err != nil {
		return nil, err
	}
	again, err := prompt("Once more: ")
	defer clear(again)
	if err == nil && !bytes.Equal(secret, again) {
		err = errors.New("the two differ")
	}
	return secret, err
}
