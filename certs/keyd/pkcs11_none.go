//go:build !pkcs11

package keyd

import "errors"

// openToken is what a keyd without cgo does instead.
func openToken(*Config) (backend, error) {
	return nil, errors.New("pkcs11: this keyd is built without PKCS #11; run keyd-pkcs11 (make keyd-pkcs11)")
}
