package keyd

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

// The PEM types of an encrypted folder, and the version that both write.
const (
	plainType   = "PRIVATE KEY"
	keyType     = "SALLYPORT ENCRYPTED PRIVATE KEY"
	masterType  = "SALLYPORT SEALED MASTER KEY"
	fileVersion = "1"
)

// masterFile is the name, in the key folder, of what the passphrase opens. Where it is, every key file is encrypted.
const masterFile = "master.pem"

// ErrWrongSecret means that a passphrase or PIN does not open what it should. Trying the same again is of no use, and
// tokens count failures: whoever starts keyd anew should not.
var ErrWrongSecret = errors.New("wrong passphrase or PIN")

// vault encrypts key files with XChaCha20-Poly1305 under a random master key. The folder holds the master key itself, sealed
// under what Argon2id makes of a passphrase: one run of Argon2id opens all keys, and another passphrase seals one file anew.
type vault struct{ master []byte }

func newVault() *vault {
	v := &vault{make([]byte, chacha20poly1305.KeySize)}
	rand.Read(v.master)
	return v
}

// wipe forgets the master key, as far as Go lets us.
func (v *vault) wipe() { clear(v.master) }

// cost is what Argon2id takes: RFC 9106 §3.1.
type cost struct {
	time    uint32 // passes
	memory  uint32 // KiB
	threads uint8
}

// usualCost is the second recommendation of RFC 9106 §4: 0.1 s of a machine of 2024. The first takes 2 GiB, which keyd
// would keep locked in memory.
func usualCost() cost { return cost{time: 3, memory: 64 << 10, threads: 4} }

// check bounds what a file may demand: a hostile one must not eat the machine, and none may be made quick to guess.
func (c cost) check() error {
	if c.time < 1 || c.time > 16 || c.memory < 19<<10 || c.memory > 256<<10 || c.threads < 1 || c.threads > 16 {
		return fmt.Errorf("%s demands a cost out of bounds: %s", masterFile, c)
	}
	return nil
}

func (c cost) String() string { return fmt.Sprintf("m=%d,t=%d,p=%d", c.memory, c.time, c.threads) }

func parseCost(s string) (c cost, err error) {
	if _, err := fmt.Sscanf(s, "m=%d,t=%d,p=%d", &c.memory, &c.time, &c.threads); err != nil || c.String() != s {
		return cost{}, errors.New(masterFile + " names a cost that cannot be read")
	}
	return c, c.check()
}

// saltSize is that of Argon2id's salt, in bytes: RFC 9106 §3.1.
const saltSize = 16

// sealMaster encodes the master key under a passphrase, with a new salt.
func (v *vault) sealMaster(passphrase []byte, c cost) []byte {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	kek := argon2.IDKey(passphrase, salt, c.time, c.memory, c.threads, chacha20poly1305.KeySize)
	defer clear(kek)
	return pem.EncodeToMemory(&pem.Block{
		Type: masterType,
		Headers: map[string]string{
			"Version": fileVersion, "Argon2id": c.String(), "Salt": base64.StdEncoding.EncodeToString(salt),
		},
		Bytes: encrypt(kek, v.master, masterType, fileVersion),
	})
}

// openMaster is the inverse of sealMaster.
func openMaster(passphrase, data []byte) (*vault, error) {
	block, err := parseBlock(data, masterType, "Version", "Argon2id", "Salt")
	if err != nil {
		return nil, fmt.Errorf("%s %w", masterFile, err)
	}
	c, err := parseCost(block.Headers["Argon2id"])
	if err != nil {
		return nil, err
	}
	salt, err := base64.StdEncoding.Strict().DecodeString(block.Headers["Salt"])
	if err != nil || len(salt) != saltSize {
		return nil, errors.New(masterFile + " has a salt that cannot be read")
	}
	kek := argon2.IDKey(passphrase, salt, c.time, c.memory, c.threads, chacha20poly1305.KeySize)
	defer clear(kek)
	master, err := decrypt(kek, block.Bytes, masterType, fileVersion)
	if err != nil || len(master) != chacha20poly1305.KeySize {
		return nil, fmt.Errorf("%w, or %s was changed", ErrWrongSecret, masterFile)
	}
	return &vault{master}, nil
}

// sealKey encodes a key for the file ref. Reference and kind are bound to it: a file under another name does not open.
func (v *vault) sealKey(ref string, private crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	kind := kindOf(private.Public())
	return pem.EncodeToMemory(&pem.Block{
		Type:    keyType,
		Headers: map[string]string{"Version": fileVersion, "Reference": ref, "Kind": kind},
		Bytes:   encrypt(v.master, der, keyType, fileVersion, ref, kind),
	}), nil
}

// openKey is the inverse of sealKey. No byte of the key gets into its errors.
func (v *vault) openKey(ref string, data []byte) (crypto.Signer, error) {
	block, err := parseBlock(data, keyType, "Version", "Reference", "Kind")
	if err != nil {
		return nil, err
	}
	if is := block.Headers["Reference"]; is != ref {
		return nil, fmt.Errorf("was made to be called %q, and opens under no other name", is)
	}
	kind := block.Headers["Kind"]
	der, err := decrypt(v.master, block.Bytes, keyType, fileVersion, ref, kind)
	if err != nil {
		return nil, fmt.Errorf("was changed, or belongs to another %s", masterFile)
	}
	private, err := parsePKCS8(der)
	if err == nil && kindOf(private.Public()) != kind {
		return nil, errors.New("holds a key of another kind than it says")
	}
	return private, err
}

// parseBlock accepts exactly one PEM block with exactly these headers, written as we write it.
func parseBlock(data []byte, kind string, headers ...string) (*pem.Block, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != kind || !bytes.Equal(pem.EncodeToMemory(block), data) {
		return nil, errors.New("is not one PEM block of type " + kind)
	}
	if v := block.Headers["Version"]; v != fileVersion {
		return nil, fmt.Errorf("has version %q, and this keyd reads version %s", v, fileVersion)
	}
	for _, h := range headers {
		if _, ok := block.Headers[h]; !ok || len(block.Headers) != len(headers) {
			return nil, errors.New("has other headers than keyd writes")
		}
	}
	return block, nil
}

// encrypt returns a random nonce and the ciphertext, bound to what it is. With 24 bytes no two nonces of a key are ever the
// same.
func encrypt(key, plain []byte, what ...string) []byte {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, plain, binding(what))
}

func decrypt(key, sealed []byte, what ...string) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	if len(sealed) < aead.NonceSize() {
		return nil, errors.New("too short")
	}
	return aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], binding(what))
}

// binding joins parts so that no two lists of them give the same bytes.
func binding(parts []string) []byte {
	b := []byte("sallyport keyd")
	for _, p := range parts {
		b = strconv.AppendInt(append(b, ' '), int64(len(p)), 10)
		b = append(append(b, ':'), p...)
	}
	return b
}

// kindOf names what a key is: a keyKind, or another kind that somebody brought along.
func kindOf(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return "p" + strconv.Itoa(k.Params().BitSize)
	case *rsa.PublicKey:
		return "rsa" + strconv.Itoa(k.N.BitLen())
	case ed25519.PublicKey:
		return string(kindEd25519)
	}
	return fmt.Sprintf("%T", public)
}
