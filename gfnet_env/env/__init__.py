"""The Markov decision process: observation, reward, sampling and the environments."""
