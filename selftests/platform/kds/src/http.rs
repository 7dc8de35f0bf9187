// SPDX-License-Identifier: GPL-2.0
//! The service over HTTP, one request per connection, for clients on this machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use crate::{Error, Service};

/// A request that is longer, or takes longer, is nobody's.
const LONGEST: u64 = 8192;
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers for ever. A client that breaks off concerns nobody else.
pub fn serve(listener: &TcpListener, service: &Service) -> Result<(), Error> {
    for stream in listener.incoming() {
        if let Err(error) = stream.map_err(Error::from).and_then(|stream| answer(&stream, service))
        {
            eprintln!("kds: {error}");
        }
    }
    Ok(())
}

fn answer(mut stream: &TcpStream, service: &Service) -> Result<(), Error> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.take(LONGEST)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (status, body) = match method {
        "GET" | "HEAD" => match service.get(target)? {
            Some(body) => ("200 OK", body),
            None => ("404 Not Found", Vec::new()),
        },
        _ => ("405 Method Not Allowed", Vec::new()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    if method == "GET" {
        stream.write_all(&body)?;
    }
    Ok(())
}
