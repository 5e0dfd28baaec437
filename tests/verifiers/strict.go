// Connects as Go does by default, and says whether the server is believed: strict PORT TRUSTED
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

func main() {
	text, err := os.ReadFile(os.Args[2])
	if err != nil {
		panic(err)
	}
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(text) {
		panic("no certificate in " + os.Args[2])
	}
	connection, err := tls.Dial("tcp", "127.0.0.1:"+os.Args[1], &tls.Config{RootCAs: trusted, ServerName: "localhost"})
	var refused *tls.CertificateVerificationError
	switch {
	case err == nil:
		connection.Close()
		fmt.Println("believed")
	case errors.As(err, &refused):
		fmt.Println("refused:", err)
	default:
		panic(err)
	}
}
